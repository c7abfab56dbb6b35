"""Files of prompts and responses: their rows (``rows``, ``sources``), how these are cut into tokens (``tokenizers``),
and the rows of tokens (``dataset``) in a cache of memory-mapped arrays, so that no file has to fit into memory."""
