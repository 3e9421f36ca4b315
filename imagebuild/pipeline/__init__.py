"""The steps of a build in their order, the documents it ends in, and its budget."""
