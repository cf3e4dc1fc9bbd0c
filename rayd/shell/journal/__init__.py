"""The head's journal on stable storage: see ``rayd.core.journal`` for what is in it and when it has to be there."""
