// SPDX-License-Identifier: GPL-2.0-only
#include <stdlib.h>

void planted(void *p, int a)
{
	free(p);
	if (a)
		free(p);
}
