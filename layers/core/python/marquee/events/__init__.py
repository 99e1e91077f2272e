"""Log lines → Arrow table of events. Pure: pyarrow alone, and of it neither Parquet nor NumPy conversions."""
