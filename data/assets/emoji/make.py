"""Writes emoji.tsv from the emoji.json of npm's emoji-datasource-google 16.0.0: `python make.py emoji.json`."""

import json
import sys

COLUMNS = ["unified", "category", "subcategory", "sheet_x", "sheet_y", "name"]

with open(sys.argv[1], encoding="utf-8") as source, open("emoji.tsv", "w", encoding="utf-8") as out:
    out.write("\t".join(COLUMNS) + "\n")
    for emoji in json.load(source):
        out.write("\t".join(str(emoji[column]) for column in COLUMNS) + "\n")
