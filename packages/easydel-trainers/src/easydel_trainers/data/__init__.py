"""From a row source to the arrays of one optimizer step: `epochs`, `layout`, `prefetch`."""
