"""A shop that looks like Olist: nine tables drawn from the published figures in `facts.toml`, seeded and vectorised.

What depends on what: the state sets delivery days, freight and lateness; the category sets the price; lateness and
status set the review's score; the score sets whether a review has text, how long it is and what it complains about.
Shares are filled by quota, not by chance, so that a small shop is as faithful as a large one.
"""

import random
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator
from scipy.special import ndtri

from helpers.tasks.shop.reviews import OrderFacts, write_review
from helpers.tasks.shop.schema import ALL_TABLES, DEFAULT_ORDERS, DEFAULT_SEED, FACTS

Tables = dict[str, pd.DataFrame]
COLUMNS = {table.name: list(table.columns) for table in ALL_TABLES}

FIRST_DAY, LAST_DAY = np.datetime64("2016-10-01"), np.datetime64("2018-08-29")
BLACK_FRIDAY = np.datetime64("2017-11-24")
DAY = 86_400

# Chosen, as the last part of `facts.toml`, so that the marginals come out as the facts say.
DAYS_SIGMA = 0.62  # of log delivery days within a state; the states' means add the rest of 0.678
PRICE_SIGMA = 0.82  # of log price within a category
PRICE_TAIL = (1.4, 0.48)  # from this many sigmas on, the dear end is stretched by this much
FREIGHT_SIGMA = 0.46  # of log freight within a state
EARLY_MEAN, EARLY_SHAPE = 13.9, 4.5  # days by which an on-time order beats the promise: a gamma distribution


def simulate(orders: int = DEFAULT_ORDERS, seed: int = DEFAULT_SEED) -> Tables:
    """Draw the nine Olist tables and `review_labels` for `orders` orders; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    customers = _customers(rng, orders)
    sellers = _sellers(rng, max(30, _scaled("sellers", orders)))
    products = _products(rng, max(200, _scaled("products", orders)), len(sellers))
    order_table = _orders(rng, customers)
    items = _items(rng, order_table, customers, products, sellers)
    payments = _payments(rng, order_table, items)
    reviews, labels = _reviews(rng, order_table, items, products)
    english = [english for _, english in FACTS["categories"].values()]
    return {
        "customers": customers,
        "geolocation": _geolocation(rng, customers),
        "sellers": sellers,
        "products": products.drop(columns=["base_price", "seller"]),
        "orders": _with_text_dates(order_table),
        "order_items": _with_text_dates(items),
        "order_payments": payments,
        "order_reviews": reviews,
        "product_category_name_translation": _frame(
            "product_category_name_translation", list(FACTS["categories"]), english
        ),
        "review_labels": labels,
    }


def quota(rng: Generator, shares: dict[Any, float], size: int) -> np.ndarray:
    """`size` shuffled values whose counts follow `shares` as closely as whole numbers can (largest remainder).

    >>> values = quota(np.random.default_rng(0), {"a": 75, "b": 25}, 8)
    >>> sorted(values.tolist())
    ['a', 'a', 'a', 'a', 'a', 'a', 'b', 'b']
    """
    weights = np.array(list(shares.values()), dtype=float)
    exact = weights / weights.sum() * size
    counts = np.floor(exact).astype(int)
    short = size - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    values = np.repeat(np.array(list(shares), dtype=object), counts)
    rng.shuffle(values)
    return values


def stratified_normal(rng: Generator, size: int) -> np.ndarray:
    """`size` standard normal values, one from each of `size` equal slices of the distribution, shuffled."""
    return ndtri((rng.permutation(size) + rng.uniform(0.05, 0.95, size)) / size)


def _scaled(name: str, orders: int) -> int:
    """How many rows of a table (or people) a shop of so many orders has."""
    return round(orders * (FACTS["counts"][name] / FACTS["counts"]["orders"]))


def _ids(rng: Generator, size: int) -> np.ndarray:
    digits = rng.bytes(16 * size).hex()
    return np.array([digits[start : start + 32] for start in range(0, 32 * size, 32)], dtype=object)


def _repeat(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row i `counts[i]` times, and the number of each repetition, from 1."""
    rows = np.repeat(np.arange(len(counts)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + 1


def _frame(name: str, *columns: Any) -> pd.DataFrame:
    """The table called `name` from its columns, which stand in the order of `tables.toml`."""
    return pd.DataFrame(dict(zip(COLUMNS[name], columns, strict=True)))


def _by_state(rng: Generator, states: np.ndarray, figure: str, sigma: float) -> np.ndarray:
    """A value for each order, log-normal around its state's mean of `figure`."""
    values = np.empty(len(states))
    for state, facts in FACTS["states"].items():
        rows = np.flatnonzero(states == state)
        values[rows] = facts[figure] * np.exp(sigma * stratified_normal(rng, len(rows)) - sigma**2 / 2)
    return values


def _zip_and_city(rng: Generator, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A five-digit zip prefix and a city for each state; the capital takes about half. One city for one prefix."""
    zips, cities = np.empty(len(states), dtype=object), np.empty(len(states), dtype=object)
    for state, (names, first_digits) in FACTS["cities"].items():
        rows = np.flatnonzero(states == state)
        suffix = np.minimum(rng.geometric(0.02, len(rows)), 999)
        position = np.where(suffix % 2 == 0, 0, suffix % len(names))
        cities[rows] = np.array(names, dtype=object)[position]
        zips[rows] = [f"{first_digits}{number:03d}" for number in suffix]
    return zips, cities


def _customers(rng: Generator, size: int) -> pd.DataFrame:
    """One row per order; about 3.4 % of the orders belong to a person who bought before."""
    states = quota(rng, {state: facts["share"] for state, facts in FACTS["states"].items()}, size)
    zips, cities = _zip_and_city(rng, states)
    persons = np.arange(size)
    again = rng.choice(np.arange(1, size), size - _scaled("people", size), replace=False)
    again.sort()
    persons[again] = persons[rng.integers(0, again)]
    unique = _ids(rng, size), _ids(rng, size)[persons]
    return _frame("customers", *unique, zips[persons], cities[persons], states[persons])


def _sellers(rng: Generator, size: int) -> pd.DataFrame:
    states = quota(rng, FACTS["seller_states"], size)
    zips, cities = _zip_and_city(rng, states)
    return _frame("sellers", _ids(rng, size), zips, cities, states)


def category_shares() -> dict[str, float]:
    """Share of items of each category, %; what the facts leave over falls off among the categories without a figure."""
    shares = {name: float(share) for name, (share, _) in FACTS["categories"].items()}
    rest = [name for name, share in shares.items() if share == 0]
    weights = 1.0 / (np.arange(len(rest)) + 6.0)
    for name, weight in zip(rest, weights / weights.sum() * (100 - sum(shares.values())), strict=True):
        shares[name] = float(weight)
    return shares


def _category_log_price(names: list[str]) -> dict[str, float]:
    """Log of each category's median price: the facts' where known, else spread between 60 and 100 reais."""
    medians = FACTS["price"]["category_median"]
    spread = np.exp(np.linspace(np.log(60), np.log(100), 9))
    return {name: float(np.log(medians.get(name, spread[(5 * place + 4) % 9]))) for place, name in enumerate(names)}


def _price_normal(rng: Generator, categories: np.ndarray) -> np.ndarray:
    """How many sigmas each product's log price lies from its category's median; the dear end has a longer tail.

    A category's products (best sellers first) take golden-ratio steps through the distribution, so that the few that
    sell most are neither all cheap nor all dear.
    """
    normal = np.empty(len(categories))
    for name in np.unique(categories.astype(str)):
        rows = np.flatnonzero(categories == name)
        steps = (rng.random() + np.arange(len(rows)) * (np.sqrt(5) - 1) / 2) % 1
        normal[rows] = ndtri(np.clip(steps, 0.001, 0.999))
    start, stretch = PRICE_TAIL
    return normal + stretch * np.maximum(normal - start, 0)


def _products(rng: Generator, size: int, sellers: int) -> pd.DataFrame:
    """Products with a price to which items stay close; 2 % have no category, and then none of its descriptions."""
    shares = category_shares()
    categories = quota(rng, shares, size)
    log_price = _category_log_price(list(shares))
    base = np.exp(np.array([log_price[name] for name in categories]) + PRICE_SIGMA * _price_normal(rng, categories))
    weight = np.clip(np.exp(6.5 + 1.1 * rng.standard_normal(size) + 0.3 * np.log(base / 75)), 50, 30_000)
    table = pd.DataFrame(
        {
            "product_id": _ids(rng, size),
            "product_category_name": categories,
            "product_name_lenght": np.clip(rng.normal(48.5, 10, size), 5, 76).astype(int),
            "product_description_lenght": np.clip(np.exp(rng.normal(6.4, 0.75, size)), 4, 3992).astype(int),
            "product_photos_qty": np.minimum(rng.geometric(0.46, size), 20),
            "product_weight_g": (weight // 50 * 50).astype(int),
            "product_length_cm": np.clip(rng.normal(31, 14, size), 7, 105).astype(int),
            "product_height_cm": np.clip(np.exp(rng.normal(2.6, 0.7, size)), 2, 105).astype(int),
            "product_width_cm": np.clip(rng.normal(23, 10, size), 6, 118).astype(int),
            "base_price": base,
            "seller": np.minimum(rng.zipf(1.3, size) - 1, sellers * 50) % sellers,
        }
    )
    described = ["product_category_name", "product_name_lenght", "product_description_lenght", "product_photos_qty"]
    bare = rng.choice(size, round(0.019 * size), replace=False)
    table[described] = table[described].astype(object)
    table.loc[bare, described] = None
    return table


def _purchase_times(rng: Generator, size: int) -> np.ndarray:
    """Purchase moments: a shop that grows, a Black Friday, quiet weekends, quiet nights."""
    days = np.arange(FIRST_DAY, LAST_DAY + 1)
    age = np.arange(len(days))
    weight = np.minimum(0.25 + age / 420.0, 1.35)
    weekday = (age + 5) % 7  # the first day is a Saturday; 0 is Monday
    weight = weight * np.array([1.1, 1.1, 1.05, 1.0, 0.95, 0.75, 0.8])[weekday]
    weight = weight * np.where((days >= BLACK_FRIDAY) & (days < BLACK_FRIDAY + 3), 3.5, 1.0)
    day = rng.choice(len(days), size, p=weight / weight.sum())
    by_hour = np.array([2, 1, 0.6, 0.4, 0.4, 0.5, 1, 2, 4, 5, 6, 6, 6, 6.2, 6.2, 6.2, 6.3, 6, 6, 6, 6.2, 6.2, 5.8, 4])
    hour = rng.choice(24, size, p=by_hour / by_hour.sum())
    seconds = hour * 3600 + rng.integers(0, 3600, size)
    return days[day].astype("datetime64[s]") + seconds.astype("timedelta64[s]")


def _late_orders(rng: Generator, states: np.ndarray, days: np.ndarray) -> np.ndarray:
    """True for the late ones: each state's share, slow deliveries first to be picked."""
    late = np.zeros(len(states), dtype=bool)
    for state, facts in FACTS["states"].items():
        rows = np.flatnonzero(states == state)
        whole, part = divmod(facts["late"] / 100 * len(rows), 1)
        count = int(whole) + int(rng.random() < part)
        keys = np.log(rng.random(len(rows))) / days[rows] ** 3
        late[rows[np.argsort(keys)[len(rows) - count :]]] = True
    return late


def _lateness_days(rng: Generator, days: np.ndarray) -> np.ndarray:
    """Days late, longer for slower deliveries, never more than leaves three days to the promise."""
    groups = FACTS["lateness"]
    drawn = quota(rng, {name: group["share"] for name, group in groups.items()}, len(days))
    low, high = np.array([groups[name]["days"] for name in drawn]).T.reshape(2, -1)
    lateness = np.sort(low + (high - low) * rng.beta(1.0, 1.6, len(days)))
    slow_first = np.argsort(np.argsort(days * np.exp(0.4 * rng.standard_normal(len(days)))))
    return np.minimum(lateness[slow_first], np.maximum(days - 3, 0.05))


def _promised(
    rng: Generator, bought: np.ndarray, delivered: np.ndarray, days: np.ndarray, late: np.ndarray
) -> np.ndarray:
    """The promised midnight: before the delivery of a late order, after that of the others, after every purchase."""
    promised = np.empty(len(days), dtype="datetime64[s]")
    lateness = _lateness_days(rng, days[late])
    promised[late] = (delivered[late] - (lateness * DAY).astype("timedelta64[s]")).astype("datetime64[D]")
    early = np.maximum(rng.gamma(EARLY_SHAPE, EARLY_MEAN / EARLY_SHAPE, len(days) - late.sum()) - 0.5, 0)
    promised[~late] = (delivered[~late] + (early * DAY).astype("timedelta64[s]")).astype("datetime64[D]") + 1
    return np.maximum(promised, bought.astype("datetime64[D]").astype("datetime64[s]") + DAY)


def _orders(rng: Generator, customers: pd.DataFrame) -> pd.DataFrame:
    """Statuses and dates: bought, approved, handed to the carrier, delivered, promised (a midnight)."""
    size, states = len(customers), customers["customer_state"].to_numpy()
    bought = _purchase_times(rng, size)
    days = np.clip(_by_state(rng, states, "days", DAYS_SIGMA), 0.7, 190)
    late = _late_orders(rng, states, days)
    delivered = bought + (days * DAY).astype("timedelta64[s]")
    promised = _promised(rng, bought, delivered, days, late)
    approved = bought + np.minimum(rng.exponential(0.4 * DAY, size), 0.15 * days * DAY).astype("timedelta64[s]")
    shipped = approved + (rng.beta(1.5, 4, size) * 0.8 * days * DAY).astype("timedelta64[s]")
    status = quota(rng, FACTS["status"], size)
    dates = (bought, approved, shipped, delivered, promised)
    table = _frame("orders", _ids(rng, size), customers["customer_id"], status, *dates)
    table.loc[status != "delivered", "order_delivered_customer_date"] = pd.NaT
    table.loc[~np.isin(status, ["delivered", "shipped"]), "order_delivered_carrier_date"] = pd.NaT
    unpaid = (status == "canceled") & (rng.random(size) < 0.2)
    table.loc[unpaid, "order_approved_at"] = pd.NaT
    return table


def _items(
    rng: Generator, orders: pd.DataFrame, customers: pd.DataFrame, products: pd.DataFrame, sellers: pd.DataFrame
) -> pd.DataFrame:
    """One to seven items per order, all of one category and mostly one product; none where the order is unavailable."""
    with_items = np.flatnonzero(orders["order_status"].to_numpy() != "unavailable")
    rows, number = _repeat(quota(rng, FACTS["items_of_an_order"], len(with_items)).astype(int))
    order = with_items[rows]
    product = _pick_products(rng, products, len(order))
    first = np.flatnonzero(number == 1)
    same = (number > 1) & (rng.random(len(order)) < 0.75)
    product[same] = product[first[np.cumsum(number == 1) - 1]][same]
    price = products["base_price"].to_numpy()[product]
    freight = _freight(rng, customers["customer_state"].to_numpy()[order], price)
    approved = orders["order_approved_at"].fillna(orders["order_purchase_timestamp"]).to_numpy()[order]
    product_id, seller = (products[name].to_numpy()[product] for name in ("product_id", "seller"))
    return _frame(
        "order_items",
        orders["order_id"].to_numpy()[order],
        number,
        product_id,
        sellers["seller_id"].to_numpy()[seller],
        approved + np.timedelta64(6, "D"),
        _shop_price(price),
        freight,
    )


def _pick_products(rng: Generator, products: pd.DataFrame, size: int) -> np.ndarray:
    """Row numbers of products: the category by quota, within it a few products sell most."""
    categories = products["product_category_name"].fillna("").to_numpy()
    shares = {**category_shares(), "": 1.4}
    wanted = quota(rng, {name: share for name, share in shares.items() if (categories == name).any()}, size)
    picked = np.empty(size, dtype=int)
    for name in np.unique(wanted.astype(str)):
        rows, places = np.flatnonzero(categories == name), np.flatnonzero(wanted == name)
        popularity = 1.0 / (np.arange(len(rows)) + 25.0)
        quantiles = (rng.permutation(len(places)) + rng.random(len(places))) / len(places)
        picked[places] = rows[np.searchsorted(np.cumsum(popularity / popularity.sum())[:-1], quantiles)]
    return picked


def _shop_price(price: np.ndarray) -> np.ndarray:
    """Prices as shops write them: most end in ,90 or ,99, never below 5 reais."""
    ending = np.array([0.9, 0.99, 0.0, 0.5])[(price * 1000).astype(int) % 4]
    return np.round(np.maximum(np.floor(price), 5) + ending, 2)


def _freight(rng: Generator, states: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Freight per item: around the state's mean, a little more for dear (large) goods."""
    size_effect = (price / 75) ** 0.10
    freight = _by_state(rng, states, "freight", FREIGHT_SIGMA) * size_effect / size_effect.mean()
    return np.round(np.maximum(freight, 1.2), 2)


def _payments(rng: Generator, orders: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """Payments that add up to items and freight, to the cent; an order without items paid what was then sent back."""
    cents = items.assign(cents=((items["price"] + items["freight_value"]) * 100).round().astype(int))
    due = cents.groupby("order_id")["cents"].sum().reindex(orders["order_id"])
    due = due.fillna(pd.Series(rng.integers(3_000, 25_000, len(orders)), index=due.index)).to_numpy().astype(int)
    size = len(orders)
    first = quota(rng, FACTS["first_payment"], size)
    further = np.where(first == "boleto", 0, quota(rng, FACTS["further_payments"], size).astype(int))
    order, number = _repeat(1 + further)
    kind = np.where(number == 1, first[order], "voucher")
    voucher = (due[order] * rng.uniform(0.1, 0.25, len(order))).astype(int)
    value = np.where(number > 1, voucher, 0)
    paid_later = np.bincount(order, weights=value, minlength=size).astype(int)
    value = np.where(number == 1, due[order] - paid_later[order], value)
    installments = _installments(rng, kind, value)
    order_id = orders["order_id"].to_numpy()[order]
    return _frame("order_payments", order_id, number, kind, installments, np.round(value / 100, 2))


def _installments(rng: Generator, kind: np.ndarray, value: np.ndarray) -> np.ndarray:
    """One for all but card payments; those are split the more, the dearer."""
    installments = np.ones(len(kind), dtype=int)
    card = np.flatnonzero(kind == "credit_card")
    drawn = np.sort(quota(rng, FACTS["installments"], len(card)).astype(int))
    installments[card] = drawn[np.argsort(np.argsort(value[card] * np.exp(0.9 * rng.standard_normal(len(card)))))]
    return installments


def delay_days(orders: pd.DataFrame) -> np.ndarray:
    """Days from promise to delivery, NaN where an order was not delivered."""
    delay = orders["order_delivered_customer_date"] - orders["order_estimated_delivery_date"]
    return (delay.dt.total_seconds() / DAY).to_numpy()


def _scores(rng: Generator, delay: np.ndarray) -> np.ndarray:
    """A review score per order: by quota within each delivery group, and the facts' shares over all."""
    cases = [delay <= 0, delay <= 3, delay <= 7, delay > 7]
    groups = np.select(cases, ["on_time", *FACTS["lateness"]], "not_delivered")
    overall = np.array([FACTS["reviews"]["score_share"][str(score)] for score in range(1, 6)])
    left = overall / overall.sum() * len(delay)
    scores = np.zeros(len(delay), dtype=int)
    for name in (*FACTS["scores_if"], "on_time"):
        rows = np.flatnonzero(groups == name)
        shares = FACTS["scores_if"].get(name, np.maximum(left, 0))
        scores[rows] = quota(rng, dict(zip(range(1, 6), shares, strict=True)), len(rows)).astype(int)
        left = left - np.bincount(scores[rows], minlength=6)[1:]
    return scores


def _reviews(
    rng: Generator, orders: pd.DataFrame, items: pd.DataFrame, products: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The reviews (a few orders have none, a few two, a few share one) and the labels of those with text."""
    scores = _scores(rng, delay_days(orders))
    chosen = np.flatnonzero(rng.random(len(orders)) > 0.0077)
    twice = rng.choice(chosen, round(0.0056 * len(orders)), replace=False)
    order = np.concatenate([chosen, twice])
    score = scores[order]
    identity = _ids(rng, len(order))
    shared = rng.choice(len(order) - 1, round(0.004 * len(order)), replace=False)
    identity[shared] = identity[shared + 1]
    titles, messages, fields = zip(*_texts(rng, orders.iloc[order], items, products, score), strict=True)
    created, answered = _review_dates(rng, orders.iloc[order])
    order_id = orders["order_id"].to_numpy()[order]
    reviews = _frame("order_reviews", identity, order_id, score, titles, messages, created, answered)
    written = reviews["review_comment_message"].notna()
    labels = pd.DataFrame([label for label in fields if label], columns=COLUMNS["review_labels"][2:])
    keys = reviews.loc[written, ["review_id", "order_id"]].reset_index(drop=True)
    return _with_text_dates(reviews), pd.concat([keys, labels], axis=1)


def _who_writes(rng: Generator, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which reviews have a text (unhappy customers more often), and which of those a title."""
    facts = FACTS["reviews"]
    has_text, has_title = np.zeros(len(score), dtype=bool), np.zeros(len(score), dtype=bool)
    for value, share in facts["text_share_by_score"].items():
        rows = np.flatnonzero(score == int(value))
        has_text[rows] = quota(rng, {True: share, False: 100 - share}, len(rows)).astype(bool)
    rows = np.flatnonzero(has_text)
    has_title[rows] = rng.random(len(rows)) < facts["title_share"] / 100 * len(score) / max(len(rows), 1)
    return has_text, has_title


def _review_dates(rng: Generator, orders: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The survey goes out the day after delivery (or after the promise); the answer comes within some days."""
    due = orders["order_delivered_customer_date"].fillna(orders["order_estimated_delivery_date"]).to_numpy()
    created = due.astype("datetime64[D]") + np.timedelta64(1, "D")
    waited = (np.minimum(rng.lognormal(0.6, 0.9, len(orders)), 60) * DAY).astype("timedelta64[s]")
    return created.astype("datetime64[s]"), created.astype("datetime64[s]") + waited


def _texts(
    rng: Generator, orders: pd.DataFrame, items: pd.DataFrame, products: pd.DataFrame, score: np.ndarray
) -> list[tuple[Any, ...]]:
    """Title, message and labels of a review for each order row given; all None where the customer writes nothing."""
    has_text, has_title = _who_writes(rng, score)
    writer = random.Random(int(rng.integers(2**63)))
    category_of = dict(zip(products["product_id"], products["product_category_name"], strict=True))
    main = items.drop_duplicates("order_id").set_index("order_id")["product_id"]
    categories = [category_of.get(product) for product in main.reindex(orders["order_id"])]
    wordiness = np.zeros(len(orders))
    for value in range(1, 6):
        rows = np.flatnonzero(has_text & (score == value))
        wordiness[rows] = stratified_normal(rng, len(rows))
    facts = map(OrderFacts, score.tolist(), orders["order_status"], delay_days(orders).tolist(), categories)
    return [
        write_review(writer, order, bool(titled), wordy) if written else (None, None, None)
        for order, written, titled, wordy in zip(facts, has_text, has_title, wordiness, strict=True)
    ]


def _geolocation(rng: Generator, customers: pd.DataFrame) -> pd.DataFrame:
    """Many points per zip prefix, a quarter of them exact duplicates: the trap that makes a careless join fan out."""
    counts, size = FACTS["counts"], _scaled("geolocation", len(customers))
    unique = size - round(size * counts["geolocation_duplicates"] / counts["geolocation"])
    source = rng.integers(0, len(customers), unique)
    rows = np.concatenate([np.arange(unique), rng.integers(0, unique, size - unique)])
    names = ("customer_zip_code_prefix", "customer_city", "customer_state")
    zips, cities, states = (customers[name].to_numpy()[source] for name in names)
    latitude = -8 - (zips.astype(int) % 2200) / 100 + rng.normal(0, 0.02, unique)
    longitude = -38 - (zips.astype(int) % 1700) / 100 + rng.normal(0, 0.02, unique)
    columns = (zips, np.round(latitude, 8), np.round(longitude, 8), cities, states)
    return _frame("geolocation", *(column[rows] for column in columns))


def _with_text_dates(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its moments written as Olist writes them, `YYYY-MM-DD HH:MM:SS`, and None where there is none."""
    dates = table.select_dtypes("datetime").columns
    written = {name: table[name].dt.strftime("%Y-%m-%d %H:%M:%S").astype(object) for name in dates}
    return table.assign(**{name: column.where(column.notna(), None) for name, column in written.items()})
