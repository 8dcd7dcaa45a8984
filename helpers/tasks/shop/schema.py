"""The nine Olist files and the tables they become: names, columns, kinds and keys, in one place."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from helpers.core.files import PROJECT_ROOT
from helpers.tasks.review import REVIEW_FIELDS

Kind = Literal["text", "integer", "real", "timestamp"]

DB_PATH = PROJECT_ROOT / "data" / "commerce.db"
CSV_DIR = PROJECT_ROOT / "data" / "olist_csv"
SQL_DIR = Path(__file__).resolve().parent / "sql"
DEFAULT_ORDERS = 12_000
DEFAULT_SEED = 2018


@dataclass(frozen=True)
class Table:
    """One table: the CSV file it comes from, its columns with their kinds, keys, and the columns that may be empty."""

    name: str
    file: str
    columns: dict[str, Kind]
    key: tuple[str, ...] = ()
    references: dict[str, str] = field(default_factory=dict)
    nullable: frozenset[str] = frozenset()
    indexes: tuple[str, ...] = ()


_PRODUCT_COLUMNS: dict[str, Kind] = {
    "product_id": "text",
    "product_category_name": "text",
    "product_name_lenght": "integer",
    "product_description_lenght": "integer",
    "product_photos_qty": "integer",
    "product_weight_g": "integer",
    "product_length_cm": "integer",
    "product_height_cm": "integer",
    "product_width_cm": "integer",
}

TABLES: tuple[Table, ...] = (
    Table(
        "customers",
        "olist_customers_dataset.csv",
        {
            "customer_id": "text",
            "customer_unique_id": "text",
            "customer_zip_code_prefix": "text",
            "customer_city": "text",
            "customer_state": "text",
        },
        key=("customer_id",),
        indexes=("customer_unique_id",),
    ),
    Table(
        "geolocation",
        "olist_geolocation_dataset.csv",
        {
            "geolocation_zip_code_prefix": "text",
            "geolocation_lat": "real",
            "geolocation_lng": "real",
            "geolocation_city": "text",
            "geolocation_state": "text",
        },
        indexes=("geolocation_zip_code_prefix",),
    ),
    Table(
        "sellers",
        "olist_sellers_dataset.csv",
        {"seller_id": "text", "seller_zip_code_prefix": "text", "seller_city": "text", "seller_state": "text"},
        key=("seller_id",),
    ),
    Table(
        "products",
        "olist_products_dataset.csv",
        _PRODUCT_COLUMNS,
        key=("product_id",),
        nullable=frozenset(_PRODUCT_COLUMNS) - {"product_id"},
    ),
    Table(
        "orders",
        "olist_orders_dataset.csv",
        {
            "order_id": "text",
            "customer_id": "text",
            "order_status": "text",
            "order_purchase_timestamp": "timestamp",
            "order_approved_at": "timestamp",
            "order_delivered_carrier_date": "timestamp",
            "order_delivered_customer_date": "timestamp",
            "order_estimated_delivery_date": "timestamp",
        },
        key=("order_id",),
        references={"customer_id": "customers"},
        nullable=frozenset({"order_approved_at", "order_delivered_carrier_date", "order_delivered_customer_date"}),
        indexes=("customer_id", "order_purchase_timestamp"),
    ),
    Table(
        "order_items",
        "olist_order_items_dataset.csv",
        {
            "order_id": "text",
            "order_item_id": "integer",
            "product_id": "text",
            "seller_id": "text",
            "shipping_limit_date": "timestamp",
            "price": "real",
            "freight_value": "real",
        },
        key=("order_id", "order_item_id"),
        references={"order_id": "orders", "product_id": "products", "seller_id": "sellers"},
        indexes=("product_id", "seller_id"),
    ),
    Table(
        "order_payments",
        "olist_order_payments_dataset.csv",
        {
            "order_id": "text",
            "payment_sequential": "integer",
            "payment_type": "text",
            "payment_installments": "integer",
            "payment_value": "real",
        },
        key=("order_id", "payment_sequential"),
        references={"order_id": "orders"},
    ),
    Table(
        "order_reviews",
        "olist_order_reviews_dataset.csv",
        {
            "review_id": "text",
            "order_id": "text",
            "review_score": "integer",
            "review_comment_title": "text",
            "review_comment_message": "text",
            "review_creation_date": "timestamp",
            "review_answer_timestamp": "timestamp",
        },
        key=("review_id", "order_id"),
        references={"order_id": "orders"},
        nullable=frozenset({"review_comment_title", "review_comment_message"}),
        indexes=("order_id",),
    ),
    Table(
        "product_category_name_translation",
        "product_category_name_translation.csv",
        {"product_category_name": "text", "product_category_name_english": "text"},
        key=("product_category_name",),
    ),
)

REVIEW_LABELS = Table(
    "review_labels",
    "review_labels.csv",
    {
        "review_id": "text",
        "order_id": "text",
        **{
            name: {"enum": "text", "score": "real", "bool": "integer", "text": "text"}[kind]  # type: ignore[misc]
            for name, kind in REVIEW_FIELDS.items()
        },
    },
    key=("review_id", "order_id"),
    references={"order_id": "orders"},
    nullable=frozenset({"main_complaint"}),
)
"""What the simulator knows of each text it wrote: the ten fields. Olist has no such file; it is optional on import."""

ALL_TABLES: tuple[Table, ...] = (*TABLES, REVIEW_LABELS)


def create_statement(table: Table) -> str:
    """The `CREATE TABLE` of one table.

    >>> create_statement(Table("t", "t.csv", {"id": "text", "n": "integer"}, key=("id",), nullable=frozenset({"n"})))
    'CREATE TABLE t (id TEXT NOT NULL, n INTEGER, PRIMARY KEY (id))'
    """
    sql_type = {"text": "TEXT", "timestamp": "TEXT", "integer": "INTEGER", "real": "REAL"}
    lines = [
        f"{name} {sql_type[kind]}" + ("" if name in table.nullable else " NOT NULL")
        for name, kind in table.columns.items()
    ]
    if table.key:
        lines.append(f"PRIMARY KEY ({', '.join(table.key)})")
    lines += [f"FOREIGN KEY ({name}) REFERENCES {target} ({name})" for name, target in table.references.items()]
    return f"CREATE TABLE {table.name} ({', '.join(lines)})"
