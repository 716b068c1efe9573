"""Files that are documents themselves: text, HTML, alone, in folders and in archives."""
