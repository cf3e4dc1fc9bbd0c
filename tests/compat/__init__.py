"""The API as its users see it: every file here runs unchanged on any package that answers to `import ray`."""
