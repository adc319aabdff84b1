//! The wgpu device: Vulkan, Metal, DX12 and GL behind the kernel adapter.
