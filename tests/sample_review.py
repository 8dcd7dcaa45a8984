"""The ten fields of one review, for tests that need a right answer to start from."""

from typing import Any

FIELDS: dict[str, Any] = {
    "sentiment": "negative",
    "sentiment_score": 1.5,
    "complaint_category": "late_delivery",
    "churn_risk": "high",
    "urgency": "medium",
    "delivery_issue": True,
    "product_issue": False,
    "seller_issue": False,
    "would_buy_again": False,
    "main_complaint": "Entrega atrasada",
}
