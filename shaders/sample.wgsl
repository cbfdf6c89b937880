// The next token of each row of logits x [m, v] that were divided by the temperature and penalised (penalise.wgsl):
//
//     MODE 0   greedy     the lowest i with x[i] = max x
//     MODE 1   all        the first i with  w[0] + … + w[i] > u Σ w
//     MODE 2   filtered   the same over the tokens that are kept: of the top_k largest (0: all) the fewest largest that have
//                         top_p / 2³² of their weight (0: all), and of these those with e^(x[i] − max x) ≥ min_p;
//                         of equal logits the lowest i first
//
// w[i] = ⌊2⁴⁴ e^(x[i] − max x)⌋ are whole numbers of 64 bits, low word first: their sums are exact in any order, and all is as in
// engine/src/likelihood.rs, bit for bit. u = (bits + ½) / 2³², bits = Threefry of a row's counter under its key.
// logits: [m, v] from `offset`; numbers: key and counter of each row, tokens: [rows], both from `first_row`. A workgroup a row.
//
// Worked example: logits ln 1, ln 2, ln 5. The largest is ln 5, so w = 2⁴⁴ · (0.2, 0.4, 1), running sums 2⁴⁴ · (0.2, 0.6, 1.6). MODE 1
// takes the first with sum > u · 1.6: token 0 for u < 1/8, 1 for u < 3/8, else 2. With top_k = 2 token 0 is out: sums 0.4, 1.4, so
// 1 for u < 2/7, else 2. With top_p = 0.6 the fewest largest that weigh 0.6 · 1.6 = 0.96 are token 2 alone. With min_p = 0.3 tokens 1
// (0.4) and 2 stay, as with top_k = 2.
const MODE: u32 = 1u;

/// `zero` is 0, which no compiler knows.
struct Params { m: u32, v: u32, first_row: u32, offset: u32, top_k: u32, top_p: u32, min_p: f32, zero: u32 }
var<immediate> p: Params;
@group(0) @binding(0) var<storage, read> logits: array<u32>;
@group(0) @binding(1) var<storage, read> numbers: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> tokens: array<u32>;

/// The key of −∞; NaN has 0.
const NEVER: u32 = 0x007FFFFFu;
const INFINITE: u32 = 0xFF800000u;

var<private> row_start: u32;
var<private> lane: u32;
/// The row's random number.
var<private> number: u32;
/// The key of the largest logit.
var<private> largest: u32;
/// Tokens are kept whose key is above this, or equal and their index at most `last_equal`.
var<private> cut: u32;
var<private> last_equal: u32;

var<workgroup> sums: array<vec2<u32>, 768>;
var<workgroup> best: array<vec2<u32>, 256>;

// Whole numbers of 64 bits.

fn sum(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn difference(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn below(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

/// a · b of 32 bits each.
fn product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xFFFFu) * (b & 0xFFFFu);
    let middle = (a >> 16u) * (b & 0xFFFFu) + (low >> 16u);
    let other = (a & 0xFFFFu) * (b >> 16u) + (middle & 0xFFFFu);
    return vec2<u32>((other << 16u) | (low & 0xFFFFu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}

/// n · a, which fits.
fn times(n: u32, a: vec2<u32>) -> vec2<u32> {
    return product(n, a.x) + vec2<u32>(0u, n * a.y);
}

/// ⌊(n · a + more) / 2³²⌋
fn scaled(n: u32, a: vec2<u32>, more: vec2<u32>) -> vec2<u32> {
    let low = product(n, a.x);
    let carry = select(0u, 1u, low.x + more.x < low.x);
    return sum(sum(product(n, a.y), vec2<u32>(low.y, 0u)), sum(vec2<u32>(more.y, 0u), vec2<u32>(carry, 0u)));
}

// Logits and weights.

/// A number whose order is that of the logits; −0 is 0, and NaN is below all.
fn key_at(i: u32) -> u32 {
    let bits = logits[row_start + i];
    if (bits & 0x7FFFFFFFu) > 0x7F800000u {
        return 0u;
    }
    if bits < 0x80000000u || bits == 0x80000000u {
        return bits | 0x80000000u;
    }
    return ~bits;
}

fn logit(key: u32) -> f32 {
    return bitcast<f32>(select(~key, key ^ 0x80000000u, key >= 0x80000000u));
}

/// x, rounded to f32 before anything is done with it: nothing is fused or reordered across this.
fn rounded(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ p.zero);
}

/// e^(x − max x) of the token with this key: 2ⁿ · eʳ with |r| ≤ ½ ln 2 and a Taylor polynomial; 0 for −∞ and NaN.
fn likelihood(key: u32) -> f32 {
    if key <= NEVER || (largest == INFINITE && key < INFINITE) {
        return 0.0;
    }
    if key == largest {
        return 1.0;
    }
    let x = max(rounded(logit(key) - logit(largest)), -87.0);
    let n = rounded(rounded(rounded(x * 1.44269504) + 12582912.0) - 12582912.0);
    let r = rounded(rounded(x - rounded(n * 0.693359375)) + rounded(n * 2.12194442e-4));
    var e = rounded(0.00833333377 + rounded(r * 0.00138888892));
    e = rounded(0.0416666679 + rounded(r * e));
    e = rounded(0.166666672 + rounded(r * e));
    e = rounded(0.5 + rounded(r * e));
    e = rounded(1.0 + rounded(r * e));
    e = rounded(1.0 + rounded(r * e));
    return e * bitcast<f32>(u32(i32(n) + 127) << 23u);
}

/// ⌊2⁴⁴ x⌋ for x in [0, 1].
fn whole(x: f32) -> vec2<u32> {
    // x = mantissa · 2^(exponent − 150)
    let bits = bitcast<u32>(x);
    let mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    let up = i32(bits >> 23u) - 106;
    if up > 0 {
        return vec2<u32>(mantissa << u32(up), mantissa >> (32u - u32(up)));
    }
    return vec2<u32>(select(0u, mantissa >> u32(-up), up > -24), 0u);
}

fn weight(key: u32) -> vec2<u32> {
    return whole(likelihood(key));
}

/// The weight of token i if it is kept, else 0.
fn kept_weight(i: u32) -> vec2<u32> {
    let key = key_at(i);
    if MODE == 1u {
        return weight(key);
    }
    if key < cut || (key == cut && i > last_equal) {
        return vec2<u32>(0u, 0u);
    }
    let x = likelihood(key);
    return select(vec2<u32>(0u, 0u), whole(x), x >= p.min_p);
}

// Searches over the row, in which all lanes take part and whose result all have.

/// (key, index) of the largest logit, the lowest index among equals.
fn find_largest() -> vec2<u32> {
    var mine = vec2<u32>(0u, 0u);
    for (var i = lane; i < p.v; i += 256u) {
        let key = key_at(i);
        if key > mine.x {
            mine = vec2<u32>(key, i);
        }
    }
    best[lane] = mine;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
        if lane < half {
            let a = best[lane];
            let b = best[lane + half];
            if b.x > a.x || (b.x == a.x && b.y < a.y) {
                best[lane] = b;
            }
        }
        workgroupBarrier();
    }
    return best[0];
}

/// Σ over the lanes of each of three numbers.
fn totals(a: vec2<u32>, b: vec2<u32>, c: vec2<u32>) -> array<vec2<u32>, 3> {
    sums[lane] = a;
    sums[256u + lane] = b;
    sums[512u + lane] = c;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half >>= 1u) {
        if lane < half {
            for (var at = lane; at < 768u; at += 256u) {
                sums[at] = sum(sums[at], sums[at + half]);
            }
        }
        workgroupBarrier();
    }
    let all = array<vec2<u32>, 3>(sums[0], sums[256], sums[512]);
    workgroupBarrier();
    return all;
}

/// Σ w over the tokens whose key is above `key`.
fn weight_above(key: u32) -> vec2<u32> {
    var mine = vec2<u32>(0u, 0u);
    for (var i = lane; i < p.v; i += 256u) {
        let own = key_at(i);
        if own > key {
            mine = sum(mine, weight(own));
        }
    }
    let none = vec2<u32>(0u, 0u);
    return totals(mine, none, none)[0];
}

/// The largest key at which the tokens with this key or a larger one are `need` many, or weigh as much; in `above` what
/// those with a larger one are. Two bits of the key a pass, from the first down.
struct Cut { key: u32, above: vec2<u32> }
fn find_cut(weighed: bool, need: vec2<u32>) -> Cut {
    var found = Cut(0u, vec2<u32>(0u, 0u));
    for (var digit = 0u; digit < 16u; digit++) {
        let step = 1u << (30u - 2u * digit);
        var one = vec2<u32>(0u, 0u);
        var two = one;
        var three = one;
        for (var i = lane; i < p.v; i += 256u) {
            let key = key_at(i);
            if key >= found.key + step {
                var measure = vec2<u32>(1u, 0u);
                if weighed {
                    measure = weight(key);
                }
                one = sum(one, measure);
                if key >= found.key + 2u * step {
                    two = sum(two, measure);
                }
                if key >= found.key + 3u * step {
                    three = sum(three, measure);
                }
            }
        }
        let all = totals(one, two, three);
        if !below(all[2], need) {
            found.key += 3u * step;
        } else if !below(all[1], need) {
            found = Cut(found.key + 2u * step, all[2]);
        } else if !below(all[0], need) {
            found = Cut(found.key + step, all[1]);
        } else {
            found.above = all[0];
        }
    }
    return found;
}

/// The first i at which a sum of tokens 0 to i is more than a bound: of kept weights more than u times all of them, or of
/// tokens with the key `cut` more than `bound`. Sixteen lanes add up a sixteenth; the one that passes it is cut again.
fn find_place(drawing: bool, bound: u32) -> u32 {
    var rest = vec2<u32>(bound, 0u);
    var first = 0u;
    for (var length = p.v; length > 1u; length = (length + 15u) / 16u) {
        let part = (length + 15u) / 16u;
        let end = min(first + min((lane / 16u + 1u) * part, length), p.v);
        var mine = vec2<u32>(0u, 0u);
        for (var i = first + (lane / 16u) * part + lane % 16u; i < end; i += 16u) {
            if drawing {
                mine = sum(mine, kept_weight(i));
            } else {
                mine.x += select(0u, 1u, key_at(i) == cut);
            }
        }
        sums[lane] = mine;
        workgroupBarrier();
        if lane < 16u {
            var all = sums[16u * lane];
            for (var i = 1u; i < 16u; i++) {
                all = sum(all, sums[16u * lane + i]);
            }
            sums[256u + lane] = all;
        }
        workgroupBarrier();
        if drawing && length == p.v {
            var all = sums[256];
            for (var i = 1u; i < 16u; i++) {
                all = sum(all, sums[256u + i]);
            }
            rest = scaled(number, all, vec2<u32>((all.x >> 1u) | (all.y << 31u), all.y >> 1u));
        }
        var passed = 0u;
        var searching = true;
        for (var i = 0u; i < 15u; i++) {
            searching = searching && !below(rest, sums[256u + i]);
            rest = select(rest, difference(rest, sums[256u + i]), searching);
            passed += select(0u, 1u, searching);
        }
        workgroupBarrier();
        first += passed * part;
    }
    return first;
}

/// Sets `cut` and `last_equal` to what top-k and top-p leave.
fn keep() {
    // How many tokens with the key `cut` are kept.
    var equal = 0u;
    if p.top_k > 0u {
        let found = find_cut(false, vec2<u32>(p.top_k, 0u));
        cut = found.key;
        equal = p.top_k - found.above.x;
    }
    if p.top_p > 0u {
        let total = sum(weight_above(cut), times(equal, weight(cut)));
        let need = scaled(p.top_p, total, vec2<u32>(0xFFFFFFFFu, 0u));
        let found = find_cut(true, need);
        cut = found.key;
        // The least number of them that weighs at least what those above it lack.
        let lacking = difference(need, found.above);
        let each = weight(cut);
        equal = 0u;
        for (var bit = 1u << 18u; bit > 0u; bit >>= 1u) {
            equal += select(0u, bit, below(times(equal + bit, each), lacking));
        }
        equal += 1u;
    }
    // Then some are; said by the parameters, so that the barriers of the search stand where all threads come.
    if p.top_k > 0u || p.top_p > 0u {
        last_equal = find_place(false, equal - 1u);
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let row = group.y * groups.x + group.x;
    if row >= p.m {
        return;
    }
    lane = index;
    row_start = p.offset + row * p.v;
    let top = find_largest();
    var token = top.y;
    if MODE != 0u {
        let counter = numbers[p.first_row + row];
        number = threefry(counter.x, counter.y, counter.zw);
        largest = top.x;
        cut = 0u;
        last_equal = p.v;
        if MODE == 2u {
            keep();
        }
        let drawn = find_place(true, 0u);
        token = select(0u, drawn, largest > NEVER);
    }
    if lane == 0u {
        tokens[p.first_row + row] = token;
    }
}
