//! The WGSL sources, one constant each, named as the file and as the op they serve.
//!
//! A source is complete as it stands, or the list below says which shared files are joined to its end: `matmul_operands.wgsl`
//! (how the products read and write), `blocks.wgsl` (how elements of any type are decoded), `threefry.wgsl` (random numbers),
//! `attention_pairs.wgsl` (gradients of attention that take single pairs).
//! Before it is compiled, `const NAME: u32 = …;` lines may get another value (the layout of a product, the element type of a
//! weight, a tile size); nothing else is substituted. Scalars of a call are in `var<immediate> p: Params`, in words of four
//! bytes.

/// A compute shader: its name and its WGSL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shader {
    /// That of its file.
    pub name: &'static str,
    /// The WGSL, with what is joined to it.
    pub source: &'static str,
}

macro_rules! shaders {
    ($($constant:ident $file:literal $(+ $shared:literal)*,)*) => {
        $(
            #[doc = concat!("`", $file, ".wgsl`")]
            pub const $constant: Shader = Shader {
                name: $file,
                source: concat!(
                    include_str!(concat!("../", $file, ".wgsl")),
                    $("\n", include_str!(concat!("../", $shared, ".wgsl")),)*
                ),
            };
        )*
        /// All of them.
        pub const ALL: &[Shader] = &[$($constant),*];
    };
}

shaders! {
    ADAMW "adamw",
    ADAMW_MANY "adamw_many",
    ADD_RMS_NORM "add_rms_norm",
    ADD_SCALED "add_scaled",
    ATTENTION "attention",
    ATTENTION_BACKWARD_KEY "attention_backward_key",
    ATTENTION_BACKWARD_QUERY "attention_backward_query",
    ATTENTION_DELTA "attention_delta",
    ATTENTION_PLAIN "attention_plain",
    ATTENTION_PLAIN_BACKWARD_KEY "attention_plain_backward_key" + "attention_pairs",
    ATTENTION_PLAIN_BACKWARD_QUERY "attention_plain_backward_query" + "attention_pairs",
    ATTENTION_TILED "attention_tiled",
    ATTENTION_TILED_BACKWARD_KEY "attention_tiled_backward_key" + "attention_pairs",
    ATTENTION_TILED_BACKWARD_QUERY "attention_tiled_backward_query" + "attention_pairs",
    BINARY "binary",
    CAST "cast" + "blocks",
    DROPOUT "dropout" + "threefry",
    GATHER_ROWS "gather_rows" + "blocks",
    LOG_PROBS "log_probs",
    LOG_PROBS_BACKWARD "log_probs_backward",
    MATMUL_BLOCKED "matmul_blocked" + "matmul_operands" + "blocks",
    MATMUL_COOPERATIVE "matmul_cooperative" + "matmul_operands" + "blocks",
    MATMUL_DIRECT "matmul_direct",
    MATMUL_FEW_ROWS "matmul_few_rows" + "matmul_operands" + "blocks",
    MATMUL_NAIVE "matmul_naive" + "matmul_operands" + "blocks",
    MATMUL_REDUCE "matmul_reduce",
    MATMUL_REGISTER "matmul_register" + "matmul_operands" + "blocks",
    MATMUL_TILED "matmul_tiled" + "matmul_operands" + "blocks",
    PENALISE "penalise",
    RMS_NORM "rms_norm",
    RMS_NORM_BACKWARD "rms_norm_backward",
    RMS_NORM_BACKWARD_WEIGHT "rms_norm_backward_weight",
    ROPE "rope",
    ROW_NORMS "row_norms",
    ROW_NORMS_BACKWARD "row_norms_backward",
    ROW_SCALES "row_scales",
    SAMPLE "sample" + "threefry",
    SCATTER_ADD_ROWS "scatter_add_rows",
    SUM_ROWS "sum_rows",
    SUM_SQUARES "sum_squares",
    SUM_SQUARES_MANY "sum_squares_many",
    SWIGLU "swiglu",
    SWIGLU_BACKWARD "swiglu_backward",
    UNARY "unary",
    UNARY_BACKWARD "unary_backward",
    WRITE_ROWS "write_rows",
}
