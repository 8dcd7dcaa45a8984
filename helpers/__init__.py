"""The tested code behind the notebooks: data, parsing, rewards, recipes, training, evaluation, decisions.

Rooms are stacked in floors and import downwards only; ``README.md`` ("The house") names them. Importing this package
pulls in neither torch nor any GPU library.
"""

import os

# Two OpenMP threads that spin while they wait take ten times longer on a busy machine (stack notes); torch reads this
# when it is imported, which is always after this package.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
