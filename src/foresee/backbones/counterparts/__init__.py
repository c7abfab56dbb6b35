"""Models of the transformers library that compute what a backbone computes.

A package of its own, so that looking for backbones does not read the library, which takes a second.
"""
