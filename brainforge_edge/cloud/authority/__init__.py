"""The site's certificate authority, beside the aggregator."""
