"""Files that an exported folder holds as they are: they need torch and transformers alone.

They import each other relatively and nothing of the package, since in a folder there is no package.
"""
