"""What people want and how to act on it; knows neither items nor roads."""
