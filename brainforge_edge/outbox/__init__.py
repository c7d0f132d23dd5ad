"""Events that wait for the uplink: written with the change they tell of, published later and repeatably."""
