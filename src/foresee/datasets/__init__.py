"""Files of prompts and responses: reading them, cutting them into tokens, and keeping the result on disk.

Files are streamed (``reading``) into their text (``texts``), texts are cut into tokens (``tokens``), and both are kept
in a cache of memory-mapped arrays (``cache``), so that neither has to fit into memory.
"""
