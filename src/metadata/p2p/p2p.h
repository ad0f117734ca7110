/* SPDX-License-Identifier: Apache-2.0 */
/* The one symbol of this metadata store, for the list of parts. */
#ifndef CW_METADATA_P2P_P2P_H
#define CW_METADATA_P2P_P2P_H

#include <causeway/plugin.h>

extern const struct cw_metadata_ops cw_metadata_p2p;

#endif
