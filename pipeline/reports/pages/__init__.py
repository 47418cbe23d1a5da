"""Reports as pages: one HTML file each, with its pictures inside."""
