"""The bedside page and its API: a client of the control socket."""
