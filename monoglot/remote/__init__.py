"""A store on S3-compatible storage: the bucket is the truth, a folder here its mirror."""
