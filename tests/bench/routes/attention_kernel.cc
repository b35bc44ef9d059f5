// deadkv::attention_block_tkg in float32 for the CPU: what a kernel does that reads the pools by the block table
// itself. Bound twice: as an XLA FFI handler, and as a C function for a torch operator.
//
// Operands and results have the shapes of tracing/decoder/attention_reference.py; norm of X on, no QK norm, no bias, no
// cache update. A block is read only if its table entry is not negative and the mask lets a query see one of its
// tokens. One thread.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void AddScaled(float* to, const float* from, float factor, int64_t n) {
  for (int64_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// out [rows, columns] = x [rows, inner] * w [inner, columns]; each row of w is read once.
void MatMul(const float* x, const float* w, float* out, int64_t rows, int64_t inner, int64_t columns) {
  std::fill_n(out, rows * columns, 0.0f);
  for (int64_t i = 0; i < inner; ++i)
    for (int64_t r = 0; r < rows; ++r) AddScaled(out + r * columns, w + i * columns, x[r * inner + i], columns);
}

}  // namespace

// One call. Sizes count elements; context_tokens is the first dimension of the mask, active tokens included.
struct AttentionCall {
  int64_t batch, tokens, hidden, q_heads, kv_heads, head_dim, block_tokens, table_columns, context_tokens;
  float epsilon;
  const float *x, *gamma, *w_qkv, *cos, *sin;
  const int32_t* table;
  const float *k_cache, *v_cache;
  const uint8_t* mask;
  const float* w_out;
  float *x_out, *k_tkg, *v_tkg;
};

namespace {

class Attention {
 public:
  explicit Attention(const AttentionCall& call)
      : c_(call),
        rows_(call.batch * call.tokens),
        width_((call.q_heads + 2 * call.kv_heads) * call.head_dim),
        prior_(call.context_tokens - call.tokens),
        qkv_(rows_ * width_),
        attended_(rows_ * call.q_heads * call.head_dim),
        scores_(call.q_heads * call.context_tokens) {}

  void Run() {
    Project();
    for (int64_t row = 0; row < rows_; ++row) {
      Rotate(row);
      Store(row);
    }
    for (int64_t row = 0; row < rows_; ++row) Attend(row);
    MatMul(attended_.data(), c_.w_out, c_.x_out, rows_, c_.q_heads * c_.head_dim, c_.hidden);
  }

 private:
  float* Head(int64_t row, int64_t head) { return qkv_.data() + row * width_ + head * c_.head_dim; }
  float* Key(int64_t row, int64_t kv) { return Head(row, c_.q_heads + kv); }
  float* Value(int64_t row, int64_t kv) { return Head(row, c_.q_heads + c_.kv_heads + kv); }

  void Project() {
    std::vector<float> normed(rows_ * c_.hidden);
    for (int64_t row = 0; row < rows_; ++row) {
      const float* x = c_.x + row * c_.hidden;
      const float scale = 1.0f / std::sqrt(Dot(x, x, c_.hidden) / c_.hidden + c_.epsilon);
      for (int64_t i = 0; i < c_.hidden; ++i) normed[row * c_.hidden + i] = x[i] * scale * c_.gamma[i];
    }
    MatMul(normed.data(), c_.w_qkv, qkv_.data(), rows_, c_.hidden, width_);
  }

  // The first half of each q and k head is paired with its second half; cos and sin are [head_dim / 2, row].
  void Rotate(int64_t row) {
    const int64_t half = c_.head_dim / 2;
    for (int64_t head = 0; head < c_.q_heads + c_.kv_heads; ++head) {
      float* x = Head(row, head);
      for (int64_t i = 0; i < half; ++i) {
        const float cos = c_.cos[i * rows_ + row], sin = c_.sin[i * rows_ + row];
        const float first = x[i], second = x[half + i];
        x[i] = first * cos - second * sin;
        x[half + i] = second * cos + first * sin;
      }
    }
  }

  // K_tkg is [head_dim, batch, kv_heads, tokens], V_tkg [batch, kv_heads, tokens, head_dim].
  void Store(int64_t row) {
    const int64_t b = row / c_.tokens, s = row % c_.tokens;
    for (int64_t kv = 0; kv < c_.kv_heads; ++kv) {
      const int64_t at = (b * c_.kv_heads + kv) * c_.tokens + s;
      for (int64_t i = 0; i < c_.head_dim; ++i) c_.k_tkg[i * rows_ * c_.kv_heads + at] = Key(row, kv)[i];
      std::copy_n(Value(row, kv), c_.head_dim, c_.v_tkg + at * c_.head_dim);
    }
  }

  void Attend(int64_t row) {
    std::fill(scores_.begin(), scores_.end(), kMasked);
    VisitKeys(row, c_.k_cache, [&](int64_t t, int64_t kv, const float* key) { Score(row, t, kv, key); }, true);
    for (int64_t head = 0; head < c_.q_heads; ++head) Softmax(scores_.data() + head * c_.context_tokens);
    float* out = attended_.data() + row * c_.q_heads * c_.head_dim;
    std::fill_n(out, c_.q_heads * c_.head_dim, 0.0f);
    VisitKeys(row, c_.v_cache, [&](int64_t t, int64_t kv, const float* value) {
      for (int64_t head = kv * Group(); head < (kv + 1) * Group(); ++head)
        AddScaled(out + head * c_.head_dim, value, scores_[head * c_.context_tokens + t], c_.head_dim);
    }, false);
  }

  // Calls visit(t, kv, vector) for each token that the row may see: those of the pool, then the active ones.
  template <typename Visit>
  void VisitKeys(int64_t row, const float* pool, Visit visit, bool keys) {
    const int64_t b = row / c_.tokens;
    for (int64_t column = 0; column < c_.table_columns; ++column) {
      const int64_t block = c_.table[b * c_.table_columns + column];
      if (block < 0) continue;
      const int64_t first = column * c_.block_tokens;
      for (int64_t t = first; t < std::min(first + c_.block_tokens, prior_); ++t) {
        if (!Seen(row, t)) continue;
        const float* token = pool + (block * c_.block_tokens + t - first) * c_.kv_heads * c_.head_dim;
        for (int64_t kv = 0; kv < c_.kv_heads; ++kv) visit(t, kv, token + kv * c_.head_dim);
      }
    }
    for (int64_t s = 0; s < c_.tokens; ++s)
      for (int64_t kv = 0; kv < c_.kv_heads; ++kv) {
        const int64_t other = b * c_.tokens + s;
        visit(prior_ + s, kv, keys ? Key(other, kv) : Value(other, kv));
      }
  }

  const uint8_t* Mask(int64_t row, int64_t t) const {
    const int64_t b = row / c_.tokens;
    return c_.mask + (t * c_.batch + b) * c_.q_heads * c_.tokens + row % c_.tokens;
  }

  bool Seen(int64_t row, int64_t t) const {
    const uint8_t* mask = Mask(row, t);
    for (int64_t head = 0; head < c_.q_heads; ++head)
      if (mask[head * c_.tokens]) return true;
    return false;
  }

  void Score(int64_t row, int64_t t, int64_t kv, const float* key) {
    const float scale = 1.0f / std::sqrt(static_cast<float>(c_.head_dim));
    for (int64_t head = kv * Group(); head < (kv + 1) * Group(); ++head)
      if (Mask(row, t)[head * c_.tokens])
        scores_[head * c_.context_tokens + t] = scale * Dot(Head(row, head), key, c_.head_dim);
  }

  void Softmax(float* scores) {
    const float peak = *std::max_element(scores, scores + c_.context_tokens);
    float total = 0;
    for (int64_t t = 0; t < c_.context_tokens; ++t) total += scores[t] = std::exp(scores[t] - peak);
    for (int64_t t = 0; t < c_.context_tokens; ++t) scores[t] /= total;
  }

  int64_t Group() const { return c_.q_heads / c_.kv_heads; }

  const AttentionCall& c_;
  const int64_t rows_, width_, prior_;
  std::vector<float> qkv_, attended_, scores_;
};

using Floats = ffi::Buffer<ffi::F32>;
using FloatResult = ffi::Result<Floats>;

// `unread` is every further operand of the operator, which the kernel is handed and never reads.
ffi::Error Handler(Floats x, Floats gamma, Floats w_qkv, Floats cos, Floats sin, ffi::Buffer<ffi::S32> table,
                   Floats k_cache, Floats v_cache, ffi::Buffer<ffi::PRED> mask, Floats w_out,
                   ffi::RemainingArgs unread, float epsilon, FloatResult x_out, FloatResult k_tkg, FloatResult v_tkg) {
  (void)unread;
  const auto shape = x.dimensions(), pool = k_cache.dimensions();
  AttentionCall call{shape[0], shape[1], shape[2], w_out.dimensions()[0] / pool[3], pool[2], pool[3], pool[1],
                     table.dimensions()[1], mask.dimensions()[0], epsilon,
                     x.typed_data(), gamma.typed_data(), w_qkv.typed_data(), cos.typed_data(), sin.typed_data(),
                     table.typed_data(), k_cache.typed_data(), v_cache.typed_data(),
                     reinterpret_cast<const uint8_t*>(mask.untyped_data()), w_out.typed_data(),
                     x_out->typed_data(), k_tkg->typed_data(), v_tkg->typed_data()};
  Attention(call).Run();
  return ffi::Error::Success();
}

}  // namespace

extern "C" void attention_block_tkg(const AttentionCall* call) { Attention(*call).Run(); }

XLA_FFI_DEFINE_HANDLER_SYMBOL(attention_block_tkg_ffi, Handler,
                              ffi::Ffi::Bind()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<ffi::Buffer<ffi::S32>>().Arg<Floats>().Arg<Floats>()
                                  .Arg<ffi::Buffer<ffi::PRED>>().Arg<Floats>()
                                  .RemainingArgs()
                                  .Attr<float>("epsilon")
                                  .Ret<Floats>().Ret<Floats>().Ret<Floats>());
