//! Element types of a buffer: what it holds and how many bytes that takes.

/// GGUF's quantised block formats. Each block holds [`Quant::block_len`] consecutive weights of one row.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quant {
    /// 4-bit integers −8 ..= 7, one float16 scale.
    Q4_0,
    /// 4-bit integers 0 ..= 15, a float16 scale and a float16 minimum.
    Q4_1,
    /// 5-bit integers −16 ..= 15, one float16 scale.
    Q5_0,
    /// 5-bit integers 0 ..= 31, a float16 scale and a float16 minimum.
    Q5_1,
    /// 8-bit integers, one float16 scale.
    Q8_0,
    /// 4-bit integers in eight groups, each with a 6-bit scale and minimum.
    Q4_K,
    /// 5-bit integers in eight groups, each with a 6-bit scale and minimum.
    Q5_K,
    /// 6-bit integers in sixteen groups, each with an 8-bit scale.
    Q6_K,
}

impl Quant {
    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            Quant::Q4_0 | Quant::Q4_1 | Quant::Q5_0 | Quant::Q5_1 | Quant::Q8_0 => 32,
            Quant::Q4_K | Quant::Q5_K | Quant::Q6_K => 256,
        }
    }
    /// Bytes in a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Quant::Q4_0 => 18,
            Quant::Q4_1 => 20,
            Quant::Q5_0 => 22,
            Quant::Q5_1 => 24,
            Quant::Q8_0 => 34,
            Quant::Q4_K => 144,
            Quant::Q5_K => 176,
            Quant::Q6_K => 210,
        }
    }
}

/// What one element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision: 5 bits of exponent, 10 of fraction.
    F16,
    /// The upper half of a float32: 8 bits of exponent, 7 of fraction.
    BF16,
    /// Whole numbers: token ids, row numbers.
    U32,
    /// Blocks of a few bits a weight, decoded where they are used.
    Quant(Quant),
}

impl DType {
    /// Bytes that `n` elements take. Quantised rows are whole numbers of blocks.
    pub const fn bytes(self, n: usize) -> usize {
        match self {
            DType::F32 | DType::U32 => 4 * n,
            DType::F16 | DType::BF16 => 2 * n,
            DType::Quant(q) => n.div_ceil(q.block_len()) * q.block_bytes(),
        }
    }
    /// The name that people know it by: PyTorch's, or GGUF's for blocks.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "float32",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            DType::U32 => "uint32",
            DType::Quant(Quant::Q4_0) => "Q4_0",
            DType::Quant(Quant::Q4_1) => "Q4_1",
            DType::Quant(Quant::Q5_0) => "Q5_0",
            DType::Quant(Quant::Q5_1) => "Q5_1",
            DType::Quant(Quant::Q8_0) => "Q8_0",
            DType::Quant(Quant::Q4_K) => "Q4_K",
            DType::Quant(Quant::Q5_K) => "Q5_K",
            DType::Quant(Quant::Q6_K) => "Q6_K",
        }
    }
}
