"""What pipeline and train share: recipe, tables, commit record, manifest, tokens, errors, the file layer."""
