//! What kernels take: the same structs as in `kernels/*.cu`, field by field.

use super::card::Pointer;

/// How a product's result is put down.
pub const STORE: i32 = 0;
pub const ADD: i32 = 1;
pub const STORE_F32: i32 = 2;
pub const GATED: i32 = 3;

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Product {
    pub w: Pointer,
    pub w_batch: u64,
    pub element: i32,
    pub n: i32,
    pub k: i32,
    pub x: Pointer,
    pub x_batch: u64,
    pub x_row: i32,
    pub x_is_f32: i32,
    pub norm: Pointer,
    pub epsilon: f32,
    pub scales: Pointer,
    pub turns: i32,
    pub y: Pointer,
    pub y_batch: u64,
    pub y_row: i32,
    pub mode: i32,
    pub bias: Pointer,
    pub tokens: i32,
    pub tiles: Pointer,
    pub tile_count: Pointer,
    pub token_of: Pointer,
    pub ends: Pointer,
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Cache {
    pub rows: Pointer,
    pub tables: Pointer,
    pub table_row: i32,
    pub layers: i32,
    pub layer: i32,
    pub page_tokens: i32,
    pub row: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Turn {
    pub angles: Pointer,
    pub pairs: i32,
    pub interleaved: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Embed {
    pub slots: Pointer,
    pub w: Pointer,
    pub element: i32,
    pub hidden: i32,
    pub x: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Norm {
    pub x: Pointer,
    pub rows: Pointer,
    pub w: Pointer,
    pub x_row: i32,
    pub n: i32,
    pub epsilon: f32,
    pub y: Pointer,
    pub y_row: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Unscaled {
    pub x: Pointer,
    pub w: Pointer,
    pub x_row: i32,
    pub n: i32,
    pub tokens: i32,
    pub epsilon: f32,
    pub y: Pointer,
    pub scales: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct GateUp {
    pub x: Pointer,
    pub y: Pointer,
    pub x_row: i32,
    pub n: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Latents {
    pub slots: Pointer,
    pub cache: Cache,
    pub turn: Turn,
    pub kv: Pointer,
    pub kv_row: i32,
    pub latent: i32,
    pub rope: i32,
    pub norm: Pointer,
    pub epsilon: f32,
    pub q: Pointer,
    pub q_row: i32,
    pub heads: i32,
    pub nope: i32,
    pub to: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Heads {
    pub slots: Pointer,
    pub cache: Cache,
    pub turn: Turn,
    pub qkv: Pointer,
    pub heads: i32,
    pub kv_heads: i32,
    pub head: i32,
    pub q_norm: Pointer,
    pub k_norm: Pointer,
    pub epsilon: f32,
    pub q: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Gate {
    pub scores: Pointer,
    pub bias: Pointer,
    pub experts: i32,
    pub tokens: i32,
    pub top: i32,
    pub groups: i32,
    pub kept: i32,
    pub group_two: i32,
    pub sigmoid: i32,
    pub normalise: i32,
    pub scale: f32,
    pub shared: i32,
    pub choice: Pointer,
    pub share: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Route {
    pub choice: Pointer,
    pub experts: i32,
    pub tokens: i32,
    pub choices: i32,
    pub tile: i32,
    pub shared: i32,
    pub slot: Pointer,
    pub token_of: Pointer,
    pub ends: Pointer,
    pub tiles: Pointer,
    pub tile_count: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Choose {
    pub gate: Gate,
    pub route: Route,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Combine {
    pub y: Pointer,
    pub slot: Pointer,
    pub share: Pointer,
    pub choices: i32,
    pub hidden: i32,
    pub x: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Gather {
    pub cache: Cache,
    pub table: i32,
    pub count: i32,
    pub y: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Attend {
    pub slots: Pointer,
    pub cache: Cache,
    pub q: Pointer,
    pub heads: i32,
    pub per_kv: i32,
    pub key: i32,
    pub value: i32,
    pub key_at: i32,
    pub value_at: i32,
    pub kv_apart: i32,
    pub scale: f32,
    pub y: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Decode {
    pub slots: Pointer,
    pub cache: Cache,
    pub q: Pointer,
    pub heads: i32,
    pub per_kv: i32,
    pub value: i32,
    pub value_at: i32,
    pub scale: f32,
    pub mix: Pointer,
    pub most_sum: Pointer,
    pub parts: i32,
    pub y: Pointer,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Prompt {
    pub q: Pointer,
    pub q_row: i32,
    pub key: i32,
    pub k: Pointer,
    pub k_row: i32,
    pub k_apart: i32,
    pub k_last: Pointer,
    pub k_last_row: i32,
    pub v: Pointer,
    pub v_row: i32,
    pub v_apart: i32,
    pub per_kv: i32,
    pub first: i32,
    pub tokens: i32,
    pub scale: f32,
    pub y: Pointer,
    pub y_row: i32,
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Random {
    pub y: Pointer,
    pub count: u64,
    pub seed: u32,
    pub scale: f32,
}
