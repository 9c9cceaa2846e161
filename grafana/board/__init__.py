"""Dashboards as code: `python -m grafana.board` writes grafana/dashboards and what else is made from the metric contract."""
