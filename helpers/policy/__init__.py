"""Who answers: load a policy for a backend, generate, evaluate, serve.

Importing this room loads torch, but none of what Unsloth has to be imported before: trl, transformers and peft.
"""

from helpers.policy.evaluation import evaluate, summarize
from helpers.policy.generation import MODES, Generation, Settings, generate, settings_for
from helpers.policy.loading import RunPolicy, describe_base, find_policy, load_base, load_run_policy
from helpers.policy.lora import load_adapter, lora_config, with_lora
from helpers.policy.model import Policy
