// SPDX-License-Identifier: GPL-2.0-only
/* Stands alone: a NULL check before kfree(), and an int that is compared twice. */
static int planted(struct planted *p, int a)
{
	if (p)
		kfree(p);
	if (a < 0 || a < 0)
		return 1;;
	return 0;
}
