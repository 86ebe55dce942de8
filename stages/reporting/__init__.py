"""Every picture and page: the report, model cards, charts."""
