//! A primary behind sentinels, replaced under load.
