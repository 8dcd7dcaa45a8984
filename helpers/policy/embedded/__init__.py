"""The embedded policies: small Qwen3-architecture models that ship with the project, and the habits they were taught.

They stand for the hub's models where there is no GPU. `python -m helpers embedded build` makes them anew.
"""

from helpers.policy.embedded.architecture import new_model, train_tokenizer
from helpers.policy.embedded.build import CACHE, CARD, all_texts
from helpers.policy.embedded.habits import RATES, with_habits
from helpers.policy.embedded.load import SHIPPED, base_policy, fingerprint, read_card, stand_in
