"""How reports look: tables of text, JSON, HTML pages, figures. A leaf: it knows no report."""
