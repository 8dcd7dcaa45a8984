-- One row per order: everything of the order's own tables summed or picked first, so that no join multiplies rows.
-- Geolocation is left out on purpose: a zip prefix has many rows there.
-- main item: the dearest of the order. Payment type: the one that paid most. Review: the last answered.
CREATE TABLE orders_enriched (
    order_id TEXT PRIMARY KEY REFERENCES orders (order_id),
    customer_id TEXT NOT NULL,
    customer_unique_id TEXT NOT NULL,
    customer_city TEXT,
    customer_state TEXT,
    order_status TEXT NOT NULL,
    order_purchase_timestamp TEXT NOT NULL,
    order_delivered_customer_date TEXT,
    order_estimated_delivery_date TEXT NOT NULL,
    purchase_month TEXT NOT NULL,
    delivery_days REAL,
    delay_days REAL,
    is_late INTEGER,
    item_count INTEGER NOT NULL,
    price REAL,
    freight_value REAL,
    payment_value REAL,
    payment_type TEXT,
    payment_installments INTEGER,
    product_category_name TEXT,
    seller_id TEXT,
    seller_state TEXT,
    review_id TEXT,
    review_score INTEGER,
    review_comment_title TEXT,
    review_comment_message TEXT,
    sentiment TEXT
);

INSERT INTO orders_enriched
WITH totals AS (
    SELECT order_id, COUNT(*) AS item_count, ROUND(SUM(price), 2) AS price, ROUND(SUM(freight_value), 2) AS freight_value
    FROM order_items
    GROUP BY order_id
),
main_item AS (
    SELECT order_id, product_id, seller_id,
        ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY price DESC, order_item_id) AS position
    FROM order_items
),
paid AS (
    SELECT order_id, ROUND(SUM(payment_value), 2) AS payment_value, MAX(payment_installments) AS payment_installments
    FROM order_payments
    GROUP BY order_id
),
main_payment AS (
    SELECT order_id, payment_type,
        ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY payment_value DESC, payment_sequential) AS position
    FROM order_payments
),
last_review AS (
    SELECT order_id, review_id, review_score, review_comment_title, review_comment_message,
        ROW_NUMBER() OVER (PARTITION BY order_id ORDER BY review_answer_timestamp DESC, review_id) AS position
    FROM order_reviews
)
SELECT
    o.order_id,
    o.customer_id,
    c.customer_unique_id,
    c.customer_city,
    c.customer_state,
    o.order_status,
    o.order_purchase_timestamp,
    o.order_delivered_customer_date,
    o.order_estimated_delivery_date,
    SUBSTR(o.order_purchase_timestamp, 1, 7),
    ROUND(JULIANDAY(o.order_delivered_customer_date) - JULIANDAY(o.order_purchase_timestamp), 1),
    ROUND(JULIANDAY(o.order_delivered_customer_date) - JULIANDAY(o.order_estimated_delivery_date), 1),
    o.order_delivered_customer_date > o.order_estimated_delivery_date,
    COALESCE(t.item_count, 0),
    t.price,
    t.freight_value,
    p.payment_value,
    mp.payment_type,
    p.payment_installments,
    pr.product_category_name,
    s.seller_id,
    s.seller_state,
    r.review_id,
    r.review_score,
    r.review_comment_title,
    r.review_comment_message,
    CASE WHEN r.review_score >= 4 THEN 'positive' WHEN r.review_score = 3 THEN 'neutral'
        WHEN r.review_score <= 2 THEN 'negative' END
FROM orders o
JOIN customers c ON c.customer_id = o.customer_id
LEFT JOIN totals t ON t.order_id = o.order_id
LEFT JOIN main_item mi ON mi.order_id = o.order_id AND mi.position = 1
LEFT JOIN products pr ON pr.product_id = mi.product_id
LEFT JOIN sellers s ON s.seller_id = mi.seller_id
LEFT JOIN paid p ON p.order_id = o.order_id
LEFT JOIN main_payment mp ON mp.order_id = o.order_id AND mp.position = 1
LEFT JOIN last_review r ON r.order_id = o.order_id AND r.position = 1
ORDER BY o.order_id;

CREATE INDEX orders_enriched_state ON orders_enriched (customer_state);
CREATE INDEX orders_enriched_category ON orders_enriched (product_category_name);
CREATE INDEX orders_enriched_month ON orders_enriched (purchase_month);
