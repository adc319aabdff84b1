//! What two ways of starting an adapter take out of the base: PEFT does it again each time such an adapter is
//! loaded.

use nalgebra::{DMatrix, DMatrixView, SymmetricEigen};

use super::config::Initial;

/// Of a matrix f32[n,k] row by row: the factors f64[n,r] and f64[r,k], row by row, whose product is taken out
/// of it. `scale` is what the adapter's own product is multiplied by. The error says why it cannot be done.
pub(crate) fn taken_out(
    kind: Initial,
    matrix: &[f32],
    [n, k]: [usize; 2],
    rank: usize,
    scale: f64,
) -> Result<[Vec<f64>; 2], String> {
    if rank > n.min(k) {
        return Err(format!("rank {rank} is more than its matrix of {n} x {k} has"));
    }
    let wide: Vec<f64> = matrix.iter().map(|&v| v as f64).collect();
    // The memory of a matrix row by row is that of its transpose column by column.
    let transposed: DMatrixView<f64> = DMatrixView::from_slice(&wide, k, n);
    let basis = match kind {
        Initial::Plain => return Ok([Vec::new(), Vec::new()]),
        Initial::Pissa => singular(&transposed, rank),
        Initial::Olora => first_columns(&transposed, rank)?,
    };
    // Whatever lies along the basis is taken out; signs of its vectors cancel.
    let [up, down] = match basis {
        Basis::Left(q) => {
            let down = transposed * &q;
            [q, down]
        }
        Basis::Right(v) => [transposed.tr_mul(&v), v],
    };
    // PiSSA divides its singular values by the scale first; OLoRA does not, and so takes out more or less.
    let factor = if kind == Initial::Olora { scale } else { 1.0 };
    let up = up.transpose() * factor;
    // Column by column again: `up` transposed is f64[n,r] row by row, `down` f64[r,k].
    Ok([up.as_slice().to_vec(), down.as_slice().to_vec()])
}

/// Orthonormal columns on one side of a matrix [n,k].
enum Basis {
    /// f64[n,r].
    Left(DMatrix<f64>),
    /// f64[k,r].
    Right(DMatrix<f64>),
}

/// The singular vectors of the largest singular values, from the eigenvectors of the smaller product with
/// itself.
fn singular(transposed: &DMatrixView<f64>, rank: usize) -> Basis {
    let (k, n) = transposed.shape();
    let gram = if n <= k { transposed.tr_mul(transposed) } else { transposed * transposed.transpose() };
    let eigen = SymmetricEigen::new(gram);
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    let vectors = eigen.eigenvectors.select_columns(&order[..rank]);
    if n <= k { Basis::Left(vectors) } else { Basis::Right(vectors) }
}

/// An orthonormal basis of the first columns.
fn first_columns(transposed: &DMatrixView<f64>, rank: usize) -> Result<Basis, String> {
    let qr = transposed.rows(0, rank).transpose().qr();
    let r = qr.r();
    let largest = r.diagonal().amax();
    if r.diagonal().iter().any(|d| d.abs() <= largest * 1e-6) {
        return Err(
            "its matrix has first columns that depend on one another, so that its QR decomposition is not \
                    the only one"
                .into(),
        );
    }
    Ok(Basis::Left(qr.q()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in no order, so that every column is independent of the others.
    fn matrix(n: usize, k: usize) -> Vec<f32> {
        (0..n * k).map(|at| ((at * at * 7 + at * 3) % 23) as f32 / 11.0 - 1.0).collect()
    }

    fn product(parts: &[Vec<f64>; 2], [n, k]: [usize; 2], rank: usize) -> Vec<f64> {
        let of = |i: usize, j: usize| (0..rank).map(|s| parts[0][i * rank + s] * parts[1][s * k + j]).sum();
        (0..n * k).map(|at| of(at / k, at % k)).collect()
    }

    #[test]
    fn the_whole_rank_takes_out_everything_and_less_leaves_what_is_orthogonal() {
        for (n, k) in [(5, 7), (7, 5)] {
            let w = matrix(n, k);
            for kind in [Initial::Pissa, Initial::Olora] {
                let all = product(&taken_out(kind, &w, [n, k], 5, 1.0).unwrap(), [n, k], 5);
                assert!(all.iter().zip(&w).all(|(a, w)| (a - *w as f64).abs() < 1e-5), "{kind:?}");
                let some = product(&taken_out(kind, &w, [n, k], 2, 1.0).unwrap(), [n, k], 2);
                let left: Vec<f64> = w.iter().zip(&some).map(|(w, s)| *w as f64 - s).collect();
                let inner: f64 = left.iter().zip(&some).map(|(l, s)| l * s).sum();
                assert!(inner.abs() < 1e-4 && left.iter().any(|l| l.abs() > 1e-3), "{kind:?} {inner}");
            }
        }
    }

    #[test]
    fn what_has_no_single_answer_is_refused() {
        assert!(taken_out(Initial::Pissa, &[1.0; 6], [2, 3], 3, 1.0).unwrap_err().contains("rank 3"));
        assert!(
            taken_out(Initial::Olora, &[1.0; 6], [2, 3], 2, 1.0)
                .unwrap_err()
                .contains("depend on one another")
        );
    }
}
