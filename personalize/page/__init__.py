"""The page that the server shows at `/`: plain files, served as they are."""
