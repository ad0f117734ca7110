/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transport `nvlink_intra`: NVIDIA devices of one machine, by the CUDA driver. It is peer_copy with the driver's peer
 * copy between two devices; which links carry that is the driver's affair.
 */
#include <stddef.h>
#include <transports/peer_copy/peer_copy.h>

static int nvlink_across(void *own, const struct cw__peer_copy_run *run)
{
	const struct cw__gpu *gpu = own;

	return run->stream && gpu->peer_copy_async
		       ? gpu->peer_copy_async(run->to, run->to_device, run->from, run->from_device, run->length,
					      run->stream)
		       : gpu->peer_copy(run->to, run->to_device, run->from, run->from_device, run->length);
}

static int nvlink_open(struct cw_host *host, void **transport_out, const char **why_out)
{
	const struct cw__gpu *gpu = cw__gpu_load_within(CW__GPU_CUDA, cw__gpu_patience(host), why_out);
	const struct cw__peer_copy_kind kind = {
		.name = "nvlink_intra",
		.gpu = gpu,
		.across = nvlink_across,
		.own = (void *)(uintptr_t)gpu, /* never changed through it */
		.async_threshold = CW_CHUNK_MAX,
	};

	return gpu ? cw__peer_copy_open(host, &kind, transport_out, why_out) : CW_ERR_UNSUPPORTED;
}

extern const struct cw_transport_ops cw_transport_nvlink_intra;
const struct cw_transport_ops cw_transport_nvlink_intra = {
	.abi = CW_PLUGIN_ABI,
	.name = "nvlink_intra",
	.summary = "NVIDIA devices of one machine, by the CUDA driver",
	.flags = CW_TRANSPORT_DEVICE | CW_TRANSPORT_REVOCABLE,
	.open = nvlink_open,
	CW__PEER_COPY_HOOKS,
};
