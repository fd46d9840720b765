"""Read rows from files, buckets and Hugging Face data sets, by position; transform, filter and shuffle them."""
