"""What several tests share: servers, models and results made for them."""
