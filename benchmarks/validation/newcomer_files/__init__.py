"""What a newcomer brings: a network, images in Parquet files, and mistakes."""
