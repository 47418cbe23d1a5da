"""What training costs, and what a guiding stream or a mask gives."""
