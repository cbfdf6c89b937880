//! Rotary positions.
use super::counting::Cost;
use super::recorder::Call;
use super::{Gpu, shared, word};
use crate::backend::{Rotary, Rotation};
use crate::buffer::Buffer;
use crate::error::{Error, Result};

impl Rotary for Gpu {
    fn rope(&self, rotation: Rotation<'_>) -> Result<Buffer> {
        let Rotation { x, cos_sin, positions, t, heads, e, rotary, inverse } = rotation;
        let n = t * heads * e;
        let (x, cos_sin) = (self.f32("rope", x, n)?, self.f32("rope", cos_sin, 0)?);
        let positions = self.u32("rope", positions, t)?;
        if rotary > e || rotary % 2 == 1 {
            return Err(Error::shape("rope", format!("{} rotary entries of a head of {}", rotary, e)));
        }
        let y = self.new_f32(n)?;
        let size = |n: usize| word("rope", n);
        let direction: f32 = if inverse { -1.0 } else { 1.0 };
        let d = heads * e;
        for (first, rows) in self.row_blocks("rope", t, d)? {
            let part = |x| self.window(x, first * d, rows * d, 4).bind;
            let places = self.window(positions, first, rows, 4).bind;
            self.dispatch(Call {
                shader: shaders::ROPE,
                constants: &[],
                params: &[size(rows * d)?, size(heads)?, size(e)?, size(rotary)?, direction.to_bits()],
                binds: &[part(x), cos_sin.whole(), places, part(&y)],
                groups: self.groups((rows * d).div_ceil(64)),
                cost: Cost::flops(3 * rows * d),
            })?;
        }
        Ok(shared(y))
    }
}
