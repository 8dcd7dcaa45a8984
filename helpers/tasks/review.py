"""The review schema, told once: the ten fields that an extraction fills, their values and ranges.

The system prompt, the records, the rewards and the simulated shop all read it here.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from helpers.core.text import graphemes

FieldKind = Literal["enum", "score", "bool", "text"]

SENTIMENTS = ("positive", "neutral", "negative")
LEVELS = ("low", "medium", "high")
COMPLAINT_CATEGORIES = (
    "none",
    "late_delivery",
    "not_delivered",
    "damaged_product",
    "wrong_product",
    "product_quality",
    "customer_service",
    "payment_refund",
)
SCORE_RANGE = (1.0, 5.0)
MAX_COMPLAINT_CHARACTERS = 120

REVIEW_FIELDS: dict[str, FieldKind] = {
    "sentiment": "enum",
    "sentiment_score": "score",
    "complaint_category": "enum",
    "churn_risk": "enum",
    "urgency": "enum",
    "delivery_issue": "bool",
    "product_issue": "bool",
    "seller_issue": "bool",
    "would_buy_again": "bool",
    "main_complaint": "text",
}
"""The ten fields of an extracted review, in the order in which references write them."""

ENUM_VALUES: dict[str, tuple[str, ...]] = {
    "sentiment": SENTIMENTS,
    "complaint_category": COMPLAINT_CATEGORIES,
    "churn_risk": LEVELS,
    "urgency": LEVELS,
}

FIELDS_IN_PORTUGUESE = (
    f"sentiment ({', '.join(SENTIMENTS)}); sentiment_score ({SCORE_RANGE[0]} a {SCORE_RANGE[1]}); "
    f"complaint_category ({', '.join(COMPLAINT_CATEGORIES)}); churn_risk e urgency ({', '.join(LEVELS)}); "
    "delivery_issue, product_issue, seller_issue e would_buy_again (true, false); "
    f"main_complaint (texto de até {MAX_COMPLAINT_CHARACTERS} caracteres ou null)"
)
"""The schema as the system prompt tells it."""


def _short_enough(text: str) -> str:
    if graphemes(text) > MAX_COMPLAINT_CHARACTERS:
        raise ValueError(f"longer than {MAX_COMPLAINT_CHARACTERS} characters")
    return text


def _type_of(name: str) -> Any:
    kinds = {
        "score": Annotated[float, Field(ge=SCORE_RANGE[0], le=SCORE_RANGE[1])],
        "bool": bool,
        "text": Annotated[str, Field(min_length=1), AfterValidator(_short_enough)] | None,
    }
    return Literal[ENUM_VALUES[name]] if name in ENUM_VALUES else kinds[REVIEW_FIELDS[name]]


ReviewFields: type[BaseModel] = create_model(
    "ReviewFields",
    __config__=ConfigDict(extra="forbid", strict=True),
    **{name: (_type_of(name), ...) for name in REVIEW_FIELDS},  # type: ignore[call-overload]
)
"""The pydantic model of the ten fields: every field there, none beside them, no value converted."""
