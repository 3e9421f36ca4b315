"""The steps of a build in their order, the documents it ends in, and the budget it is held to."""
