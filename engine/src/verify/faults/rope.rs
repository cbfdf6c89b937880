//! Mistakes of rotary positions, and the reference with one of them.
use super::Fault::Rotary as Of;
use super::*;
use crate::verify::norms::cases;
use Mistake::*;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mistake {
    Positions,
    WholeHead,
    NotInverted,
}

pub(super) const PLANTED: &[Planted] =
    &[(Of(Positions), "rope", cases), (Of(WholeHead), "rope", cases), (Of(NotInverted), "rope", cases)];

impl Rotary for Faulty {
    fn rope(&self, rotation: Rotation<'_>) -> Result<Buffer> {
        let Rotation { cos_sin, t, e, rotary, .. } = rotation;
        let rows = Buffer::host(Host::U32((0..t as u32).map(|i| i % 70).collect()));
        match self.0 {
            Of(Positions) => Reference.rope(Rotation { positions: &rows, ..rotation }),
            Of(NotInverted) => Reference.rope(Rotation { inverse: false, ..rotation }),
            Of(WholeHead) => {
                // the angles repeated up to the size of the head
                let wide = cos_sin.f32()?.chunks(rotary).flat_map(|a| a.iter().copied().cycle().take(e)).collect();
                Reference.rope(Rotation { cos_sin: &Buffer::from_f32(wide), rotary: e, ..rotation })
            }
            _ => Reference.rope(rotation),
        }
    }
}
