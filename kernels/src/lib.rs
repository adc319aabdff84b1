//! WGSL kernels: sources, launch geometry, validation and export. Knows no GPU API.
