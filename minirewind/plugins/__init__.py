"""Short files beside the framework, one method each; nothing in the framework imports them.

They lie in the package so that a study and its workers find them by import path: "minirewind.plugins.snip:snip".
"""
