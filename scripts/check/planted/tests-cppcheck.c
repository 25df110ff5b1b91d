// SPDX-License-Identifier: GPL-2.0-only
int planted(int a)
{
	int array[4] = { 0 };

	return array[4] + a;
}
