"""The commands of `kolmo collect`, a file each; `shared` has what those that collect have in common."""
