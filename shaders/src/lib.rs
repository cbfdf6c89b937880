//! The WGSL sources, one constant each, named as the file and as the op they serve.
