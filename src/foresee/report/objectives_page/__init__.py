"""The page docs/objectives.md and its drawings, made of what the registered objectives say and do.

``python -m foresee.objectives_page`` in the repository's root writes them.
"""
