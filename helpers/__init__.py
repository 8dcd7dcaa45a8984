"""The tested code behind the notebooks: data, parsing, rewards, recipes, training, evaluation, decisions.

Rooms are stacked in floors and import downwards only; ``README.md`` ("The house") names them. Importing this package
pulls in neither torch nor any GPU library.
"""
