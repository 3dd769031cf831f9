/* Products with bitshift payloads for the compiler's default instruction set. */
#include "bitshift_product/product.h"
#if defined(__GNUC__) && defined(__i386__)
#define KOLMO_TARGET __attribute__((target("sse2,fpmath=sse"))) /* its default rounds to more than binary32 */
#else
#define KOLMO_TARGET
#endif
#define KOLMO_PATH kolmo_bitshift_baseline
#include "bitshift_product/lanes_baseline.h"

#include "bitshift_product/product_loop.h"
